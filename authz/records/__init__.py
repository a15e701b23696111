"""Decision records: what proxies and the decision door decided, kept so that it can be asked."""

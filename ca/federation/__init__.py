"""Federation: other trust domains' bundles, fetched, checked, kept, and never merged with ours."""

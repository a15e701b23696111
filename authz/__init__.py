"""Who may call whom: policy model, loading, decision engine, compilation to Envoy RBAC."""

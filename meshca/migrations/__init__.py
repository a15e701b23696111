"""Schema migrations, run by `meshca serve` at start."""

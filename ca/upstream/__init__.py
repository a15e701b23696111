"""Where our intermediate comes from: one kind of upstream a file."""

"""Generated protobuf code for protocols that no locked package carries in their current form."""

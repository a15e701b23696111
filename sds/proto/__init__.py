"""Generated protobuf code for protocols that xds-protos does not carry."""

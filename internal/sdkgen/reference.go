package main

// references returns the reference pages of the three SDKs.
func references(root string) ([]output, error) { return nil, nil }

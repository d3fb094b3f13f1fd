package main

// native are the drivers that need this very machine's Linux kernel.
var native []opener

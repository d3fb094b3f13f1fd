// Package siblings tests the restore contract on every runtime: copies of one
// snapshot are independent of each other and of their source, in programs that
// were running when it was taken.
package siblings

package meta

import "os"

// signOwner has nothing to note: no process inherits a lock here.
func signOwner(*os.File) error { return nil }

// ownerEnded says nothing that the lock does not.
func ownerEnded(*os.File) bool { return false }

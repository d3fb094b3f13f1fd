// Package stream numbers what happens and keeps the newest of it, so that a
// reader who lost its connection continues where it was: Feed for the events
// of a project, Hub for what clients of one instance see and do.
//
// Nothing here is buffered without bound. A command whose client reads slowly
// is held up, like one that writes to a slow terminal; a client that does not
// read at all is the gateway's to drop.
package stream

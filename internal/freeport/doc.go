// Package freeport reserves a TCP port for a program that starts later.
//
//	port, release, err := freeport.Hold("127.0.0.1", 0)
//	defer release()
//	// start the program that listens on the port
//
// Many programs listen on port 0, close the listener and pass the number on. This is not safe.
// Before the program listens, the kernel may give the port to an outgoing connection. The port may
// also still be in use after the close, because a child process that was forked earlier has a copy
// of the socket until the child executes its own program.
package freeport

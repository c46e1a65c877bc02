package relay

import "syscall"

// errReset is what reading from a connection that was reset gives.
const errReset = syscall.ECONNRESET

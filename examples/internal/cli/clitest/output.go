// Package clitest helps to test binaries that run beside their test.
package clitest

import (
	"bytes"
	"sync"
)

// Output is a writer that a running binary and its test share. The zero value is
// ready to use, by several goroutines at once.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// String returns all that was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

package haproxyproc

import (
	"errors"
	"os/exec"
	"path/filepath"
)

// ErrNotFound means that there is no haproxy on this machine. Its text tells
// how to get one.
var ErrNotFound = errors.New("haproxyproc: no haproxy on PATH, /usr/sbin or /usr/local/sbin; get it with: apt-get install haproxy (or run make demo, make test)")

// Find returns the path of the haproxy binary: the one on PATH, else the one
// in /usr/sbin or /usr/local/sbin, which a user's PATH often lacks. Its only
// error is [ErrNotFound].
func Find() (string, error) {
	if p, err := exec.LookPath("haproxy"); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, "haproxy")); err == nil {
			return p, nil
		}
	}
	return "", ErrNotFound
}

package controller

import (
	"context"
	"errors"
	"fmt"

	"github.com/headgate/headgate/haproxycfg/frontproxy"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/filewatch"
	"github.com/headgate/headgate/internal/inputfile"
)

// PolicyFile follows a file of settings.
type PolicyFile struct {
	// Path is the path of the policy file. Parse is the function that parses its content, such as
	// policy.Parse.
	Path  string
	Parse func(file string, data []byte) (frontproxy.Settings, error)
	// LastGood is the path of a copy of the last good content of Path; empty means no copy. If the
	// file at Path has a fault when a process starts, the process uses the file at LastGood.
	LastGood string
}

// maxPolicy is the largest size of a policy file in bytes.
const maxPolicy = 1 << 20

// Read parses the file at Path, and returns its settings, true and nil. If this file is missing or
// wrong, but the file at LastGood is good, Read returns the settings in LastGood, true and the
// error about Path. If both are wrong, it returns false and an error.
func (f PolicyFile) Read() (s frontproxy.Settings, ok bool, err error) {
	s, err = f.read()
	if err == nil {
		return s, true, nil
	}
	if f.LastGood == "" {
		return s, false, err
	}
	data, readErr := inputfile.ReadOptional(f.LastGood, maxPolicy)
	if data == nil || readErr != nil {
		return s, false, errors.Join(err, readErr)
	}
	good, parseErr := f.Parse(f.LastGood, data)
	if parseErr != nil {
		return good, false, err
	}
	return good, true, fmt.Errorf("the last good policy stays in use: %w", err)
}

// read returns the settings in the file at Path. If the file has no fault, read copies it to
// LastGood.
func (f PolicyFile) read() (frontproxy.Settings, error) {
	data, err := inputfile.Read(f.Path, maxPolicy)
	if err != nil {
		return frontproxy.Settings{}, err
	}
	s, err := f.Parse(f.Path, data)
	if err == nil {
		err = s.Validate()
	}
	if err == nil && f.LastGood != "" {
		_, err = atomicfile.Update(f.LastGood, data, 0o644)
	}
	return s, err
}

// Follow reads the file at Path, at once and after each change of the file, until ctx ends. It
// passes the settings in the file, or the error of the file, to the function "changed".
func (f PolicyFile) Follow(ctx context.Context, changed func(frontproxy.Settings, error)) {
	filewatch.Watcher{Paths: []string{f.Path}}.Run(ctx, func() error {
		s, err := f.read()
		changed(s, err)
		return err
	})
}

package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/sniproxy/ech"
	"github.com/headgate/headgate/sniproxy/ech/keyfiles"
)

// echKeys are the keys of -ech-keys.
type echKeys struct {
	dir    *keyfiles.Dir
	log    *slog.Logger
	failed atomic.Bool // the last reading returned an error
}

// newECHKeys prepares to read the ECH keys in the directory "path"; the methods load and watch read
// them. For an empty path, it returns nil.
func newECHKeys(path string, log *slog.Logger) *echKeys {
	if path == "" {
		return nil
	}
	k := &echKeys{log: log}
	k.dir = &keyfiles.Dir{Path: path, Loaded: k.loaded}
	return k
}

// load reads the keys at the start. The error is not nil if a file is wrong, or if there is no key.
// k may be nil.
func (k *echKeys) load() error {
	if k == nil {
		return nil
	}
	err := k.dir.Load()
	if err == nil && k.count() == 0 {
		err = errors.New("the directory has no key")
	}
	if err != nil {
		return fmt.Errorf("-ech-keys %s: %w", k.dir.Path, err)
	}
	return nil
}

func (k *echKeys) count() int { return len(k.dir.Keys().Configs()) }

// watch reads the keys again after each change and at SIGHUP, until ctx ends.
func (k *echKeys) watch(ctx context.Context) error {
	if err := k.dir.Watch(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// loaded logs a reading that has changed the keys or the error.
func (k *echKeys) loaded(keys *ech.Keys, err error) {
	k.failed.Store(err != nil)
	var ids []string
	for _, c := range keys.Configs() {
		ids = append(ids, fmt.Sprintf("%02x:%s", c.ID, c.PublicName))
	}
	if err != nil {
		k.log.Error("ECH keys: the last good keys stay in force", "err", err, "keys", ids)
		return
	}
	k.log.Info("ECH keys", "dir", k.dir.Path, "keys", ids)
}

const echProgram = program + " ech-config"

// runECHConfig is the subcommand "snirouter ech-config", which makes a key. It prints the
// ECHConfigList for the parameter "ech" of an HTTPS record (RFC 9848).
func runECHConfig(_ context.Context, inv cli.Invocation) int {
	fs := cli.NewFlagSet(echProgram)
	out := fs.String("out", "", cli.Meaning("out", "the file of the new key; use the directory of -ech-keys"))
	publicName := fs.String("public-name", "", "`name` that clients show to everybody in place of the real host; needs a server with a certificate")
	maxName := fs.Int("max-name-length", 64, "`length` to which clients pad shorter host names, 0 to 255: that of the longest host")
	if code, done := inv.Parse(fs); done {
		return code
	}
	switch {
	case *out == "" || *publicName == "":
		return inv.Fail(cli.ExitUsage, echProgram, "-out and -public-name are needed (-h shows the flags)")
	case *maxName < 0 || *maxName > 255:
		return inv.Fail(cli.ExitUsage, echProgram, "-max-name-length: want 0 to 255")
	}
	path, key, err := keyfiles.Create(*out, *publicName, uint8(*maxName), time.Now())
	if err != nil {
		return inv.Fail(cli.ExitFailed, echProgram, "%v", err)
	}
	fmt.Fprintf(inv.Stderr, "%s: wrote %s; copy it to all routers before you publish this ECHConfigList:\n", echProgram, path)
	fmt.Fprintln(inv.Stdout, base64.StdEncoding.EncodeToString(ech.AppendConfigList(nil, key.Config)))
	return cli.ExitOK
}

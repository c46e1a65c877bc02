package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/headgate/headgate/examples/internal/cli"
	"github.com/headgate/headgate/examples/internal/kubeconn"
	"github.com/headgate/headgate/internal/inputfile"
	"github.com/headgate/headgate/nodeselect/kubeapp/change"
)

// checkSettings are the flags of "kubeapp check".
type checkSettings struct {
	target
	files       cli.Strings
	prune, json bool
}

func (s *checkSettings) register(fs *flag.FlagSet) {
	fs.Var(&s.files, "f", "`file` of manifests, or directory with files *.yaml, *.yml and *.json, that somebody wants to apply; may be given several times")
	fs.BoolVar(&s.prune, "prune", false, "the change also deletes the Services and Deployments that -f does not contain, in the namespaces that -f contains")
	fs.BoolVar(&s.json, "json", false, cli.Meaning("json"))
	s.target.register(fs)
}

func runCheck(ctx context.Context, inv cli.Invocation) int {
	const command = program + " check"
	s := &checkSettings{}
	fs := cli.NewFlagSet(command)
	s.register(fs)
	if code, done := inv.Parse(fs); done {
		return code
	}
	kubeconn.LogTo(nil) // log nothing: the errors of the requests are enough
	err := s.resolve(inv)
	if err == nil && len(s.files) == 0 {
		err = errors.New("-f is missing")
	}
	if err != nil {
		return inv.Fail(cli.ExitUsage, command, "%v (-h shows the flags)", err)
	}
	code, err := s.run(ctx, inv)
	if err != nil {
		return inv.Fail(cli.ExitFailed, command, "%v", err)
	}
	return code
}

func (s *checkSettings) run(ctx context.Context, inv cli.Invocation) (code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	c := change.Change{Prune: s.prune, Uses: s.uses}
	for _, name := range s.files {
		if err := addFiles(&c.New, name); err != nil {
			return 0, err
		}
	}
	if c.Old, err = s.before(ctx, inv, c.New.AllNamespaces()); err != nil {
		return 0, err
	}
	findings := c.Check()
	if s.json {
		if findings == nil {
			findings = []change.Finding{} // "[]" and not "null"
		}
		enc := json.NewEncoder(inv.Stdout)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		err = enc.Encode(struct {
			Findings []change.Finding `json:"findings"`
		}{findings})
	} else {
		report(inv.Stdout, findings)
		_, err = fmt.Fprintf(inv.Stdout, "compared %d Services and %d Deployments: %d findings, %d of them allowed by annotations\n",
			len(c.New.Services), len(c.New.Deployments), len(findings), len(findings)-len(change.Refused(findings)))
	}
	if err == nil && len(change.Refused(findings)) > 0 {
		code = cli.ExitDiffer
	}
	return code, err
}

// The method "before" returns the objects of the cluster before the change.
func (s *checkSettings) before(ctx context.Context, inv cli.Invocation, namespaces []string) (objects change.Objects, err error) {
	if !s.where.Live() {
		err = addFiles(&objects, s.where.Dir)
		return objects, err
	}
	defer inv.Progress("reading the objects of the cluster").Stop()
	a, err := s.applier(inv)
	if err != nil {
		return objects, err
	}
	return a.Read(ctx, namespaces...)
}

// addFiles adds the objects of a file, or of all manifests in a directory. If a manifest has a
// problem, addFiles returns an error: a check that knows only a part of the objects would promise
// too much.
func addFiles(objects *change.Objects, name string) error {
	names := []string{name}
	if info, err := inputfile.Stat(name); err != nil {
		return err
	} else if info.IsDir() {
		entries, err := inputfile.ReadDir(name)
		if err != nil {
			return err
		}
		names = nil
		for _, e := range entries {
			if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) && !strings.HasPrefix(e.Name(), ".") {
				names = append(names, filepath.Join(name, e.Name()))
			}
		}
		if len(names) == 0 {
			return fmt.Errorf("%s: the directory has no files *.yaml, *.yml or *.json", name)
		}
	}
	var errs []error
	for _, n := range names {
		data, err := inputfile.Read(n, change.MaxFileBytes)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		parsed, problems := change.Parse(n, data)
		for _, p := range problems {
			errs = append(errs, p)
		}
		for _, duplicate := range objects.Add(parsed) {
			errs = append(errs, fmt.Errorf("%s: %s: another file has this object", n, duplicate))
		}
	}
	return errors.Join(errs...)
}

package nodeagent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
)

// File looks for a file, and asks for a drain while it is there: on a node somebody
// touches it, or a boot script does. It is an effect, and so no [Signal]: its result
// goes into [Tracker.State] beside what the cluster says. What is in the file does not
// matter. The error is of a file of which cannot be told whether it is there.
func File(path string) (Ask, bool, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil:
		return Ask{Reason: "file " + path, Since: info.ModTime()}, true, nil
	case errors.Is(err, fs.ErrNotExist):
		return Ask{}, false, nil
	}
	return Ask{}, false, fmt.Errorf("agentcheck/nodeagent: drain file: %w", err)
}

// looker looks for files.
type looker struct {
	files  []string
	log    *slog.Logger
	found  []Ask
	byFile []lookedAt
}

type lookedAt struct {
	ask   Ask
	there bool
	err   string
}

func newLooker(files []string, log *slog.Logger) *looker {
	l := &looker{files: files, log: log, byFile: make([]lookedAt, len(files))}
	l.again()
	return l
}

// again says whether something is not as it was. A file of which cannot be told
// whether it is there counts as it last did.
func (l *looker) again() (changed bool) {
	l.found = nil
	for i, file := range l.files {
		before := &l.byFile[i]
		ask, there, err := File(file)
		switch {
		case err != nil && err.Error() != before.err:
			before.err = err.Error()
			if l.log != nil {
				l.log.Warn("drain file cannot be looked at", "err", err, "counts", before.there)
			}
		case err == nil:
			changed = changed || there != before.there
			*before = lookedAt{ask: ask, there: there}
		}
		if before.there {
			l.found = append(l.found, before.ask)
		}
	}
	return changed
}

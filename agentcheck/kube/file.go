package kube

import (
	"errors"
	"fmt"
	"io/fs"
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
	return Ask{}, false, fmt.Errorf("agentcheck/kube: drain file: %w", err)
}

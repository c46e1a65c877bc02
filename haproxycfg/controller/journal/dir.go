package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/inputfile"
)

// Dir is a journal: a directory with one file for each entry. Set the fields before the first call
// of a method.
type Dir struct {
	// Path is the directory. Append creates it. The directory must contain no other files.
	Path string
	// MaxEntries is the largest number of entries about changes, and separately of entries about
	// shifts; 0 means 100. Many entries about shifts do not displace entries about changes, to
	// which an operator may want to return.
	MaxEntries int
	// MaxBytes is the largest size of all entries together in bytes; 0 means 64 MiB. The newest
	// entry always stays.
	MaxBytes int64

	mu    sync.Mutex
	clean bool // Append has removed the temporary files of killed processes

	recentMu sync.Mutex
	recent   map[string]Entry // the result of the last call of Recent, by the names of the files
}

// layout is the form of the time in the name of a file. The rest of the name is shiftSuffix if the
// Result of the entry is Shifted, and suffix for all other entries. All names have the same length,
// so their order is the order of the times.
const (
	layout      = "20060102T150405.000"
	suffix      = "Z.entry"
	shiftSuffix = "Z.shift"
)

func fileName(t time.Time, r Result) string {
	if r == Shifted {
		return t.UTC().Format(layout) + shiftSuffix
	}
	return t.UTC().Format(layout) + suffix
}

// timeOf returns the time in the name of an entry. It returns false for the name of another file.
func timeOf(name string) (time.Time, bool) {
	text, ok := strings.CutSuffix(name, suffix)
	if !ok {
		if text, ok = strings.CutSuffix(name, shiftSuffix); !ok {
			return time.Time{}, false
		}
	}
	t, err := time.Parse(layout, text)
	return t, err == nil && t.Format(layout) == text
}

// Append writes an entry. state contains the routes and servers in force after the change; nil
// means that the change has altered nothing. If the journal has an entry with the same or a later
// time, the new entry gets the time one millisecond after the newest entry. Append calls guard, if
// not nil, just before the entry becomes visible, and writes nothing if guard returns an error.
func (d *Dir) Append(e Entry, state *State, guard func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := os.MkdirAll(d.Path, 0o755); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if !d.clean {
		atomicfile.RemoveLeftovers(d.Path, func(name string) bool { _, ok := timeOf(name); return ok })
		d.clean = true
	}
	files, err := d.files()
	if err != nil {
		return err
	}
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	if n := len(files); n > 0 && !files[n-1].time.Before(e.Time) {
		e.Time = files[n-1].time.Add(time.Millisecond)
	}
	data, err := encode(e, state)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if len(data) > maxEntryBytes {
		return fmt.Errorf("journal: the entry has %d bytes, and at most %d are allowed", len(data), maxEntryBytes)
	}
	name := fileName(e.Time, e.Result)
	if err := atomicfile.WriteKeepingLeftovers(filepath.Join(d.Path, name), data, 0o600, guard); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return d.prune(append(files, file{name, e.Time, int64(len(data))}))
}

// prune removes the oldest entries. The newest entry stays.
func (d *Dir) prune(files []file) error {
	total, shifts := int64(0), 0
	for _, f := range files {
		total += f.size
		if f.isShift() {
			shifts++
		}
	}
	changes, most := len(files)-shifts, cmp.Or(d.MaxEntries, 100)
	var failed error
	for _, f := range files[:len(files)-1] {
		of := &changes
		if f.isShift() {
			of = &shifts
		}
		if *of <= most && total <= cmp.Or(d.MaxBytes, 64<<20) {
			continue
		}
		if err := os.Remove(filepath.Join(d.Path, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = fmt.Errorf("journal: %w", err)
		}
		total -= f.size
		*of--
	}
	return failed
}

// file is the file of an entry.
type file struct {
	name string
	time time.Time
	size int64
}

func (f file) isShift() bool { return strings.HasSuffix(f.name, shiftSuffix) }

// files returns the files of all entries, the oldest first.
func (d *Dir) files() ([]file, error) {
	list, err := inputfile.ReadDir(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var files []file
	for _, entry := range list {
		t, ok := timeOf(entry.Name())
		if !ok {
			continue
		}
		size := int64(0)
		if info, err := entry.Info(); err == nil {
			size = info.Size()
		}
		files = append(files, file{entry.Name(), t, size})
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

// read reads the file of an entry.
func (d *Dir) read(f file) (e Entry, rest []byte, err error) {
	data, err := inputfile.Read(filepath.Join(d.Path, f.name), maxEntryBytes)
	if err != nil {
		return Entry{}, nil, err
	}
	if e, rest, err = ReadEntry(data); err != nil {
		return Entry{}, nil, fmt.Errorf("%s: %w", filepath.Join(d.Path, f.name), err)
	}
	return e, rest, nil
}

// List returns all entries, the oldest first, and an error for each entry that cannot be read. If
// the directory does not exist, there are no entries. err is not nil if the directory cannot be
// read.
func (d *Dir) List() (entries []Entry, problems []error, err error) {
	files, err := d.files()
	if err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		e, _, err := d.read(f)
		switch {
		case errors.Is(err, fs.ErrNotExist): // Append has removed it in the meantime
		case err != nil:
			problems = append(problems, err)
		default:
			entries = append(entries, e)
		}
	}
	return entries, problems, nil
}

// Recent returns the n newest entries, the newest first, and keeps them in memory, so that the next
// call reads only newer files. problems has an error for each file that it could not read, and
// total is the number of all entries. The caller must not change the entries.
func (d *Dir) Recent(n int) (entries []Entry, problems []error, total int, err error) {
	files, err := d.files()
	if err != nil {
		return nil, nil, 0, err
	}
	total = len(files)
	d.recentMu.Lock()
	defer d.recentMu.Unlock()
	recent := map[string]Entry{}
	for _, f := range slices.Backward(files[max(0, total-n):]) {
		e, known := d.recent[f.name]
		if !known {
			e, _, err = d.read(f)
		}
		switch {
		case known || err == nil:
			recent[f.name] = e
			entries = append(entries, e)
		case errors.Is(err, fs.ErrNotExist): // Append has removed it in the meantime
		default:
			problems = append(problems, err)
		}
	}
	d.recent = recent
	return entries, problems, total, nil
}

// State returns the State of an entry that List or Latest has returned. It returns an error that
// wraps fs.ErrNotExist if Append has removed the entry in the meantime.
func (d *Dir) State(e Entry) (State, error) {
	name := fileName(e.Time, Applied)
	stored, rest, err := d.read(file{name: name})
	if err == nil && stored.Result != Applied {
		err = errors.New("the entry has no state")
	}
	if err != nil {
		return State{}, fmt.Errorf("journal: %s: %w", name, err)
	}
	state, err := ReadState(rest)
	if err != nil {
		return State{}, fmt.Errorf("%s: %w", name, err)
	}
	return state, nil
}

// Latest contains the newest entries of a Dir. If the Dir has no entry for a field, the field is
// the zero Entry.
type Latest struct {
	Entry   Entry // the newest entry whose Result is not Shifted
	Applied Entry // the newest entry of an applied change
	// Problems name the unreadable entries that are newer than Applied.
	Problems []error
}

// Latest returns the newest entry of each kind that the type Latest describes. It reads the entries
// from the newest entry back to the newest entry of an applied change, and no older entries.
func (d *Dir) Latest() (l Latest, err error) {
	files, err := d.files()
	if err != nil {
		return l, err
	}
	for _, f := range slices.Backward(files) {
		e, _, err := d.read(f)
		if err != nil {
			l.Problems = append(l.Problems, err)
			continue
		}
		if l.Entry.Time.IsZero() && e.Result != Shifted {
			l.Entry = e
		}
		if e.Result == Applied {
			l.Applied = e
			return l, nil
		}
	}
	return l, nil
}

// Past describes the configuration that was in force at a past time.
type Past struct {
	// Entry describes the change that put State into force.
	Entry Entry
	State State
	// Next is the first change that was applied after the past time. It is nil if State is still in
	// force, as far as the journal knows.
	Next *Entry
	// Refused is the last change that was refused or failed between Entry and the past time. It is
	// nil if there is no such change.
	Refused *Entry
	// Problems name the entries between Entry and Next that cannot be read. One of them may have
	// changed the configuration in force, so State may be wrong.
	Problems []error
}

// ErrUnknown means that the journal has no entry from the time t of Dir.At or from an earlier time.
var ErrUnknown = errors.New("journal: what was in force then is unknown")

// At describes the configuration that was in force at the time t. It returns ErrUnknown if the
// journal contains no readable State from t or earlier.
func (d *Dir) At(t time.Time) (Past, error) {
	files, err := d.files()
	if err != nil {
		return Past{}, err
	}
	after, _ := slices.BinarySearchFunc(files, t, func(f file, t time.Time) int {
		if f.time.After(t) {
			return 1
		}
		return -1
	})
	var p Past
	for i := after - 1; i >= 0; i-- {
		e, rest, err := d.read(files[i])
		if err == nil && e.Result == Applied {
			p.State, err = ReadState(rest)
		}
		switch {
		case err != nil:
			p.Problems = append(p.Problems, fmt.Errorf("%s: %w", files[i].name, err))
		case e.Result == Applied:
			p.Entry = e
			p.Next = d.nextApplied(files[after:], &p.Problems)
			return p, nil
		case p.Refused == nil && e.Result != Shifted:
			p.Refused = &e
		}
	}
	if len(files) == 0 {
		return Past{}, fmt.Errorf("%w: there are no entries", ErrUnknown)
	}
	return Past{}, errors.Join(append([]error{fmt.Errorf("%w: the oldest entry is of %s", ErrUnknown, FormatTime(files[0].time))}, p.Problems...)...)
}

func (d *Dir) nextApplied(files []file, problems *[]error) *Entry {
	for _, f := range files {
		e, _, err := d.read(f)
		if err != nil {
			*problems = append(*problems, fmt.Errorf("%s: %w", f.name, err))
		} else if e.Result == Applied {
			return &e
		}
	}
	return nil
}

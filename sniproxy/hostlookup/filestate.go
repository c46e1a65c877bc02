package hostlookup

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// A fileState tells whether a file was replaced or written since.
type fileState struct {
	info fs.FileInfo
	at   time.Time // when it was looked at
}

func stateOf(path string) (fileState, error) {
	at := time.Now()
	info, err := os.Stat(path) // through links: mounted files are links that move
	return fileState{info, at}, err
}

// settle is for how long after a change a file may change again under the same
// modification time: file systems count it as coarsely as by 2 seconds.
const settle = 2 * time.Second

// same is false when in doubt.
func (s fileState) same(now fileState) bool {
	return s.info != nil && os.SameFile(s.info, now.info) &&
		s.info.Size() == now.info.Size() && s.info.ModTime().Equal(now.info.ModTime()) &&
		s.at.Sub(s.info.ModTime()) > settle
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return data, nil
}

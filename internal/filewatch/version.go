package filewatch

import (
	"os"
	"time"

	"github.com/headgate/headgate/internal/inputfile"
)

// Version is the state of a file at one moment, without its content. The zero Version is not the
// state of any file.
type Version struct {
	info os.FileInfo // nil if stat failed
	err  string
	at   time.Time
}

// VersionOf returns the state of the file at path. It follows symbolic links. The absence of a file
// is also a state.
func VersionOf(path string) Version {
	at := time.Now()
	info, err := inputfile.Stat(path)
	if err != nil {
		return Version{err: err.Error(), at: at}
	}
	return Version{info: info, at: at}
}

// IsDir reports whether the file is a directory.
func (v Version) IsDir() bool { return v.info != nil && v.info.IsDir() }

// resolution is the resolution of modification times in FAT, the coarsest among common file
// systems. If a file changes twice within this time, its modification time may be the same after
// both changes.
const resolution = 2 * time.Second

// Same returns true only if the file has certainly not changed since the earlier result of
// VersionOf. It compares inode, size, mode and modification time. If the modification time is less
// than two seconds before the earlier result, Same returns false: a second change after that result
// may have the same modification time.
func (v Version) Same(earlier Version) bool {
	if v.info == nil || earlier.info == nil {
		return v.info == nil && earlier.info == nil && v.err == earlier.err
	}
	return os.SameFile(v.info, earlier.info) && v.info.Size() == earlier.info.Size() &&
		v.info.Mode() == earlier.info.Mode() && v.info.ModTime().Equal(earlier.info.ModTime()) &&
		earlier.at.Sub(earlier.info.ModTime()) > resolution
}

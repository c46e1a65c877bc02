package filewatch

import (
	"os"
	"time"
)

// Version is the state of a file at one moment, without its content. The zero Version is a file
// that could not be looked at.
type Version struct {
	info os.FileInfo // nil if stat failed
	err  string
	at   time.Time
}

// VersionOf returns the state of the file that path names, through symbolic links. A file that is
// missing has a Version too.
func VersionOf(path string) Version {
	at := time.Now()
	info, err := os.Stat(path)
	if err != nil {
		return Version{err: err.Error(), at: at}
	}
	return Version{info: info, at: at}
}

// IsDir reports whether the file is a directory.
func (v Version) IsDir() bool { return v.info != nil && v.info.IsDir() }

// coarse is the coarsest modification time of common file systems, that of FAT. A file may change
// again within this time and keep its modification time.
const coarse = 2 * time.Second

// Same reports whether the file is certainly unchanged between the earlier Version before and v.
// Inode, size, mode and modification time are compared. The answer is false if the file had changed
// less than 2 s before the earlier look: it may have changed again without a new modification
// time.
func (v Version) Same(before Version) bool {
	if v.info == nil || before.info == nil {
		return v.info == nil && before.info == nil && v.err == before.err
	}
	return os.SameFile(v.info, before.info) && v.info.Size() == before.info.Size() &&
		v.info.Mode() == before.info.Mode() && v.info.ModTime().Equal(before.info.ModTime()) &&
		before.at.Sub(before.info.ModTime()) > coarse
}

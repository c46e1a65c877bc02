package filewatch

import (
	"os"
	"time"
)

// Version is the state of a file at one moment, without the content. The zero Version
// differs from every state of a file.
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

// resolution is the resolution of modification times in FAT, the worst of common file systems. A
// file may change twice within this time and keep its modification time.
const resolution = 2 * time.Second

// Same reports whether the file is certainly unchanged since the earlier Version before. Same
// compares inode, size, mode and modification time. It is false if the file had changed less than
// two seconds before the earlier VersionOf: the file may have changed again without a new
// modification time.
func (v Version) Same(before Version) bool {
	if v.info == nil || before.info == nil {
		return v.info == nil && before.info == nil && v.err == before.err
	}
	return os.SameFile(v.info, before.info) && v.info.Size() == before.info.Size() &&
		v.info.Mode() == before.info.Mode() && v.info.ModTime().Equal(before.info.ModTime()) &&
		before.at.Sub(before.info.ModTime()) > resolution
}

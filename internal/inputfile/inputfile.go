// Package inputfile reads files that a user names, for example in a flag. Each function has three
// limits:
//
//   - It reads only regular files, also through a symbolic link. For a FIFO, a socket, a device or
//     a directory, it returns an error immediately.
//   - It returns an error for a file with more bytes than its caller allows.
//   - It returns an error that wraps [ErrNoAnswer] if the file system gives no answer for 3 s. So a
//     path that hangs blocks neither other files nor the end of the process.
//
// Each error contains the path.
package inputfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrNoAnswer means that the file system has given no answer within 3 s. A network file system
// whose server is away gives no answer.
var ErrNoAnswer = errors.New("the file system does not answer")

// openFlags are the flags that open a file for reading. With these flags, open(2) of a FIFO does
// not wait for a writer.
const openFlags = os.O_RDONLY | syscall.O_NONBLOCK

// Read returns the content of the file at path. It returns an error if the file has more than limit
// bytes.
func Read(path string, limit int64) ([]byte, error) {
	return answer("read", path, func(progress *atomic.Int64) ([]byte, error) {
		f, size, err := open(path, limit)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		var content bytes.Buffer
		content.Grow(int(size) + bytes.MinRead)
		_, err = content.ReadFrom(io.LimitReader(steps{f, progress}, limit+1))
		if err == nil && int64(content.Len()) > limit { // the file has grown
			err = tooLarge(path, int64(content.Len()), limit)
		}
		if err != nil {
			return nil, err
		}
		return content.Bytes(), nil
	})
}

// ReadOptional returns the content of the file at path, as Read does. If the file does not exist,
// ReadOptional returns nil without an error. The content of an empty file is not nil.
func ReadOptional(path string, limit int64) ([]byte, error) {
	data, err := Read(path, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if data == nil && err == nil {
		data = []byte{}
	}
	return data, err
}

// Equal reports whether the file at path exists and its content is exactly data. It stops reading
// at the first difference.
func Equal(path string, data []byte) (bool, error) {
	return answer("read", path, func(progress *atomic.Int64) (bool, error) {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return false, nil
		case err != nil:
			return false, err
		case info.Mode().IsRegular() && info.Size() != int64(len(data)):
			return false, nil
		}
		// Open the file without a limit of its size. With a limit, open would return an error for a
		// file that has grown since Stat. For such a file, Equal must return false and no error.
		f, _, err := open(path, math.MaxInt64)
		if errors.Is(err, fs.ErrNotExist) { // the file has been removed since Stat
			return false, nil
		}
		if err != nil {
			return false, err
		}
		defer f.Close()
		buf := make([]byte, 64<<10)
		for rest := data; ; {
			n, err := steps{f, progress}.Read(buf)
			if n > len(rest) || !bytes.Equal(buf[:n], rest[:n]) {
				return false, nil
			}
			rest = rest[n:]
			if errors.Is(err, io.EOF) {
				return len(rest) == 0, nil
			}
			if err != nil {
				return false, err
			}
		}
	})
}

// Stat returns the FileInfo of a file of any kind, as [os.Stat] does. If the file system does not
// answer, the error wraps ErrNoAnswer.
func Stat(path string) (fs.FileInfo, error) {
	return answer("stat", path, func(*atomic.Int64) (fs.FileInfo, error) { return os.Stat(path) })
}

// ReadDir returns the entries of a directory, as [os.ReadDir] does. If the file system does not
// answer, the error wraps ErrNoAnswer. If path is no directory, ReadDir returns an error
// immediately.
func ReadDir(path string) ([]fs.DirEntry, error) {
	return answer("read", path, func(*atomic.Int64) ([]fs.DirEntry, error) {
		f, err := os.OpenFile(path, openFlags, 0)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		entries, err := f.ReadDir(-1)
		slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		return entries, err
	})
}

// open opens a regular file of at most limit bytes, and returns its size. Between stat and open,
// the file at path may be replaced by a FIFO. So open does not wait for a writer of a FIFO, and
// checks the opened file again.
func open(path string, limit int64) (f *os.File, size int64, err error) {
	info, err := os.Stat(path) // before the file is opened, because to open some devices has effects
	if err == nil {
		err = check(path, info, limit)
	}
	if err != nil {
		return nil, 0, err
	}
	if f, err = os.OpenFile(path, openFlags, 0); err != nil {
		return nil, 0, err
	}
	if info, err = f.Stat(); err == nil {
		err = check(path, info, limit)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// check returns an error if the file is not regular, or if it has more than limit bytes.
func check(path string, info fs.FileInfo, limit int64) error {
	if mode := info.Mode(); !mode.IsRegular() {
		return failed(path, "%s, not a regular file", kind(mode))
	}
	if info.Size() > limit {
		return tooLarge(path, info.Size(), limit)
	}
	return nil
}

func kind(mode fs.FileMode) string {
	switch mode.Type() {
	case fs.ModeDir:
		return "a directory"
	case fs.ModeNamedPipe:
		return "a FIFO"
	case fs.ModeSocket:
		return "a socket"
	}
	return "a device"
}

func tooLarge(path string, size, limit int64) error {
	return failed(path, "%d bytes, and at most %d are allowed", size, limit)
}

func failed(path, format string, args ...any) error {
	return &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf(format, args...)}
}

// steps reads a file in steps of at most 1 MiB, and counts the steps. Another function watches this
// count and gives up after 3 s without a step. So reading a large file from a slow file system may
// take longer than 3 s, if each step takes less.
type steps struct {
	f        *os.File
	progress *atomic.Int64
}

func (s steps) Read(p []byte) (int, error) {
	n, err := s.f.Read(p[:min(len(p), 1<<20)])
	s.progress.Add(1)
	return n, err
}

// patience is the time without progress after which a call fails with ErrNoAnswer.
const patience = 3 * time.Second

// unanswered contains each path for which a call has failed with ErrNoAnswer, until the operating
// system answers that call. While a path is in unanswered, each further call for this path fails
// immediately. Otherwise, a program that tries again and again would get one more blocked thread
// each time.
var unanswered sync.Map

// outcome is the result of a call.
type outcome[T any] struct {
	result T
	err    error
}

// answer returns the result of the function "call", which makes system calls for the file at path.
// If the function makes no progress for 3 s, answer returns ErrNoAnswer. The goroutine of the
// function then remains until the operating system answers.
func answer[T any](op, path string, call func(progress *atomic.Int64) (T, error)) (result T, err error) {
	noAnswer := &fs.PathError{Op: op, Path: path, Err: ErrNoAnswer}
	if _, waiting := unanswered.Load(path); waiting {
		return result, noAnswer
	}
	var progress atomic.Int64
	done := make(chan outcome[T], 1)
	go func() {
		result, err := call(&progress)
		done <- outcome[T]{result, err}
	}()
	o, ok := await(done, time.Tick(patience), &progress)
	if !ok {
		unanswered.Store(path, true)
		go func() { <-done; unanswered.Delete(path) }()
		return result, noAnswer
	}
	return o.result, o.err
}

// await waits for the outcome of a call that may never return, such as a read from a file system
// that does not answer. progress is a counter that rises while the call advances. If it does not
// rise from one tick to the next, await stops waiting, and ok is false.
func await[T any](done <-chan outcome[T], tick <-chan time.Time, progress *atomic.Int64) (o outcome[T], ok bool) {
	for seen := int64(0); ; {
		select {
		case o := <-done:
			return o, true
		case <-tick:
		}
		// The outcome may have arrived together with the tick, or shortly after it. It counts in
		// both cases.
		select {
		case o := <-done:
			return o, true
		default:
		}
		now := progress.Load()
		if now == seen {
			return o, false
		}
		seen = now
	}
}

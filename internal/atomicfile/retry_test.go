package atomicfile

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
)

// On a file system where no new file can be locked, a write fails and does not loop for ever.
func TestRetryEnds(t *testing.T) {
	calls := 0
	err := retry("/some/file", func() (bool, error) { calls++; return false, nil })
	var path *fs.PathError
	require.ErrorAs(t, err, &path)
	require.Equal(t, "/some/file", path.Path)
	require.Equal(t, maxTries, calls)

	calls = 0
	boom := errors.New("boom")
	err = retry("/some/file", func() (bool, error) { calls++; return calls == 3, boom })
	require.ErrorIs(t, err, boom)
	require.Equal(t, 3, calls)
	require.NoError(t, retry("/some/file", func() (bool, error) { return true, nil }))
}

//go:build amd64 || arm64

package relay

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// An idle connection is a flow, an entry and what the Session holds. The next size class of
// Go's allocator after this one is 352.
func TestAFlowIsSmall(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(flow{}), uintptr(320))
}

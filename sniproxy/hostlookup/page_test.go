package hostlookup

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPageNamesTests: the tests that README.md names exist.
func TestPageNamesTests(t *testing.T) {
	exists := map[string]bool{}
	for _, pattern := range []string{"*_test.go", "httpapi/*_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(data, -1) {
				exists[string(m[1])] = true
			}
		}
	}
	page, err := os.ReadFile("README.md")
	require.NoError(t, err)
	named := regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(page, -1)
	require.Greater(t, len(named), 40)
	for _, m := range named {
		require.True(t, exists[string(m[1])], "%s does not exist", m[1])
	}
}

package bearer

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	token := File(path)
	_, err := token(t.Context())
	require.ErrorContains(t, err, path)
	for _, step := range []struct{ content, want string }{
		{" first \n", "first"},
		{"second", "second"},
		{"", "second"},
		{"two words", "second"},
		{"third\n", "third"},
	} {
		require.NoError(t, os.WriteFile(path, []byte(step.content), 0o600))
		got, err := token(t.Context())
		require.NoError(t, err)
		require.Equal(t, step.want, got)
	}
}

func TestAuthorized(t *testing.T) {
	for header, want := range map[string]bool{
		"Bearer secret": true, "bearer secret": true, "Bearer  secret": true,
		"": false, "Bearer": false, "Bearer ": false, "secret": false, "Basic secret": false, "Bearer secretive": false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", header)
		require.Equal(t, want, Authorized(r, "secret"), "%q", header)
	}
}

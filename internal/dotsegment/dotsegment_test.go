package dotsegment

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestIn(t *testing.T) {
	for _, path := range []string{
		"/..", "/.", "/../x", "/a/..;x", "/a/..;/x", "/%2e%2E", "/%252e%252e", "/%25252e./x", "/%25%32%65%25%32%65/x", "/..%2fx", "/a%2f..%2fx", "/..%5cx",
		"/..%3bx", "/..%3fx", "/..%23x", "/..%00", "/%c0%ae%C0%AE/x", "/..%c0%afx", "/%u002e./x", `/..\x`,
		"/%%32%65./x", "/%zz/%25%32%65./x", "/..%%32%66x", "/..%25%35%63x", "/%f0%80%80%ae./x", "/%uff0e./x", "/..%u2215x", "/%ef%bc%8e%EF%BC%8E/x",
		"/..%ef%bc%8fx", "/..%ef%bc%bcx", "/..%e2%88%95x", "/..%e2%81%84x", "/.%09./x", "/%0a..%250D/x", "/..%0d", "/.%25%30%39./x", "/%2e%%30%61%2e", "/.%25%30%44./x", "/.%250%64./x",
		"/%zz/..%25%33%62x", "/%zz/..%253%66x", "/%zz/..%%32%33x", "/%zz/..%25%30%30", "/" + strings.Repeat("%09", 4000) + "../x",
	} {
		require.True(t, In(path), path)
	}
	for _, path := range []string{"/", "/a", "/...", "/.well-known/x", "/a..", "/..a", "/a/b..c/d", "/%2ehidden", "/%2e%2e%2e", "/a%252fb", "/..%20x", "/a;..b", "/.%25%30%38./x", "/.%%30%62./x", "/..%25%33%61x", "/..%%33%63x"} {
		require.False(t, In(path), path)
	}
}

var plain = regexp.MustCompile(`(^|[/\\])\.{1,2}([/\\;?#\x00]|$)`)

// FuzzIn: if a server decodes a path once or twice and finds a dot segment, In finds it too. This is
// also true if the server then removes tabs and ends of lines. The paths of the test have no NUL,
// because a request never contains NUL itself.
func FuzzIn(f *testing.F) {
	f.Add("/a/%2e%2e/b")
	f.Add("/a/%25252e./b")
	f.Add("/a/.%25%30%39./b")
	f.Add("/" + strings.Repeat("%25", 100) + "2e/")
	f.Fuzz(func(t *testing.T, path string) {
		strip := strings.NewReplacer("\t", "", "\n", "", "\r", "")
		path = strip.Replace(strings.ReplaceAll(path, "\x00", ""))
		decoded, found := path, plain.MatchString(path)
		for range 2 {
			next, err := url.PathUnescape(decoded)
			if err != nil {
				break
			}
			decoded, found = next, found || plain.MatchString(next) || plain.MatchString(strip.Replace(next))
		}
		if found {
			require.True(t, In(path), decoded)
		}
	})
}

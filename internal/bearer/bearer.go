// Package bearer reads bearer tokens (RFC 6750) from files, for clients and for servers, and checks
// the token of a request.
//
//	token := bearer.File("/run/secrets/token")
//	…
//	want, err := token(ctx)
//	if err != nil || !bearer.Authorized(r, want) { … }
package bearer

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/headgate/headgate/internal/inputfile"
)

// maxToken limits a token's file in bytes.
const maxToken = 16 << 10

// File returns a function that reads the token in a file at each call, without white space at the
// ends. So a token that Kubernetes renews in a mounted file is used at once.
//
// If the file is unreadable or has no valid token, the function returns the last valid token. If it
// has never read a valid token, it returns the error. The function is safe for concurrent use.
func File(path string) func(context.Context) (string, error) {
	var (
		mu   sync.Mutex
		last string
	)
	return func(context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		token, err := read(path)
		if err == nil {
			last = token
		}
		if last == "" {
			return "", err
		}
		return last, nil
	}
}

func read(path string) (string, error) {
	data, err := inputfile.Read(path, maxToken)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("%s: file is empty", path)
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return "", fmt.Errorf("%s: byte %#02x in token", path, token[i])
		}
	}
	return token, nil
}

// Authorized reports whether a request has this token. It compares the hashes of the tokens, which
// always have the same length. So the time of the comparison reveals nothing about the token.
func Authorized(r *http.Request, token string) bool {
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	gotSum, wantSum := sha256.Sum256([]byte(strings.TrimSpace(got))), sha256.Sum256([]byte(token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(gotSum[:], wantSum[:]) == 1
}

package runtimeapi

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzParseCertificates(f *testing.F) {
	f.Fuzz(func(t *testing.T, answer string) {
		files, ok := parseCertificateList(answer)
		require.False(t, !ok && files != nil)
		for _, file := range files {
			require.Contains(t, answer, file+":")
		}
		if sum, ok := parseCertificateSHA1(answer); ok {
			require.Contains(t, strings.ToUpper(answer), strings.ToUpper(hex.EncodeToString(sum[:])))
		}
		require.Contains(t, answer, parsePendingCertificate(answer))
	})
}

// TestWithoutSecrets: HAProxy repeats a command that it does not know, so an answer may contain a
// line of a payload.
func TestWithoutSecrets(t *testing.T) {
	pem := []byte("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----\n")
	require.Equal(t, "Can't load the payload\n", withoutSecrets("Can't load the payload\nUnknown command: 'MIGHAgEAMBMGByqGSM49AgEG'\n", pem))
	require.Empty(t, withoutSecrets("Unknown command: 'GByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg'", pem))
	require.Equal(t, "Success!\n", withoutSecrets("Success!\n", pem))
}

package ech_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/ech"
)

// BenchmarkOpen opens the hello that crypto/tls sends by default, with key shares for ML-KEM and
// X25519.
func BenchmarkOpen(b *testing.B) {
	key := generate(b, configID)
	sealed := clientHello(b, configList(key))
	plain := clientHello(b, nil)
	for _, c := range []struct {
		name    string
		keys    *ech.Keys
		message []byte
		want    error
	}{
		{"accepted", ech.NewKeys(key), sealed, nil},
		{"wrong key", ech.NewKeys(generate(b, configID)), sealed, ech.ErrDecrypt},
		{"grease", ech.NewKeys(generate(b, configID+1)), sealed, ech.ErrNoKey},
		{"not offered", ech.NewKeys(key), plain, ech.ErrNotOffered},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.keys.Open(c.message); !errors.Is(err, c.want) {
					b.Fatal(err)
				}
			}
		})
	}
}

// A hello that no key can open costs no allocation.
func TestAllocations(t *testing.T) {
	keys := ech.NewKeys(generate(t, configID+1))
	for name, message := range map[string][]byte{
		"grease": clientHello(t, configList(generate(t, configID))), "not offered": clientHello(t, nil),
	} {
		t.Run(name, func(t *testing.T) {
			require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = keys.Open(message) }))
		})
	}
}

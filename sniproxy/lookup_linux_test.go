package sniproxy_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/hostlookup"
)

// If the client closes the connection during a lookup, the context of the lookup ends. An event
// loop notices the close at once. The implementation with goroutines notices it only at its next
// read or write.
func TestClientThatLeavesEndsItsLookup(t *testing.T) {
	asked, ended := make(chan bool), make(chan error)
	r := newRouter(t, native, hostlookup.Func(func(ctx context.Context, _ string) (hostlookup.Endpoint, error) {
		asked <- true
		<-ctx.Done()
		ended <- ctx.Err()
		return hostlookup.Endpoint{}, ctx.Err()
	}), func(s *sniproxy.Server) { s.LookupTimeout = time.Hour })
	c := dial(t, r.serve(0))
	_, err := c.Write(hellotest.Hello{Name: "a.example"}.Wire())
	require.NoError(t, err)
	<-asked
	require.NoError(t, c.SetLinger(0))
	require.NoError(t, c.Close())
	require.ErrorIs(t, <-ended, context.Canceled)
	st := r.next()
	require.Equal(t, sniproxy.Gone, st.Outcome)
	require.Equal(t, sniproxy.PhaseLookup, st.Phase)
	require.Equal(t, "a.example", st.Name)
}

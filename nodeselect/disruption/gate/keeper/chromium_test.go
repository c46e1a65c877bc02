package keeper_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/chromiumtest"
	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
)

func TestPageInABrowser(t *testing.T) {
	l := newLab()
	k := l.keeper()
	_, err := k.Take(t.Context(), "kured-of-a-long-name-of-a-holder.example.com", time.Hour, "n0")
	require.NoError(t, err)
	l.set(5, "cordoned")
	srv := httptest.NewServer(&keeper.Handler{Keeper: k, Title: "eu-1"})
	defer srv.Close()
	b := chromiumtest.Start(t)
	b.Look(t, "gate", srv.URL+"/")
	require.Contains(t, b.Text(t), "n5 (cordoned")
}

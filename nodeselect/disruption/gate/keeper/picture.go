package keeper

import (
	"context"
	"net/http"

	"github.com/headgate/headgate/nodeselect/disruption"
	"github.com/headgate/headgate/nodeselect/disruption/gate"
)

// Picture returns an SVG of the services and nodes, the next wave, and the limits that permit no
// further node to be away; see package picture.
func (k *Keeper) Picture(ctx context.Context, title string) (svg []byte, err error) {
	err = k.decide(ctx, func(g *gate.Gate) []gate.Grant {
		svg = g.Picture(title, disruption.DefaultSteps).SVG()
		return nil
	})
	return svg, err
}

func (h *Handler) picture(w http.ResponseWriter, r *http.Request) {
	svg, err := h.Keeper.Picture(r.Context(), "")
	if err != nil {
		cannotTell(w, err)
		return
	}
	w.Header().Set("Content-Type", "image/svg+xml")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(svg)
}

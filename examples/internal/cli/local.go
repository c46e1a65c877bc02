package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// LocalOnly answers 403 to who comes from another machine: metrics are for the network,
// what operators of the machine may do is not. It refuses browsers, which send one of
// two headers with whatever is not a GET, since the page that they show may come from
// anywhere. Nothing of the request's body is read.
func LocalOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "":
			http.Error(w, "not from a browser", http.StatusForbidden)
		case !isLocal(r):
			http.Error(w, "to be asked on the machine itself", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func isLocal(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	peer := from.Addr().Unmap()
	own, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return peer.IsLoopback() || ok && own.AddrPort().Addr().Unmap() == peer
}

// AskAdmin sends a request without a body to the admin listener of a binary that runs on
// this machine, and copies the answer to out. listen is the address as the binary was
// given it. An answer other than 200 is an error that says what was answered.
func AskAdmin(ctx context.Context, method, listen, path string, query url.Values, out io.Writer) error {
	host, err := localAddress(listen)
	if err != nil {
		return err
	}
	target := url.URL{Scheme: "http", Host: host, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		return err
	}
	// Not the default client: a proxy of the environment has no business here.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", target.Redacted(), resp.Status, strings.TrimSpace(string(body)))
	}
	_, err = out.Write(body)
	return err
}

// localAddress is where to reach, on this machine, what listens on an address.
func localAddress(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port), nil
}

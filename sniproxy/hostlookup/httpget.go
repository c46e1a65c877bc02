package hostlookup

import (
	"context"
	"fmt"
	"net/http"
)

// get asks an API for JSON, with a bearer token if there is a function for one.
func get(ctx context.Context, client *http.Client, url string, token func(context.Context) (string, error)) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "headgate-hostlookup")
	if token != nil {
		word, err := token(ctx)
		if err != nil {
			return nil, fmt.Errorf("token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+word)
	}
	return client.Do(req)
}

package main

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"os"

	"github.com/headgate/headgate/sniproxy"
)

// maxPage bounds a page: each answer is held in memory whole.
const maxPage = 256 << 10

// pages is what HTTP clients get instead of an application: the user's page where the
// host is unknown, and this one for the rest, in which a user's would tell the wrong story.
const pages = `{{define "other"}}<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{.Text}}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:36em;padding:0 1em}</style>
<h1>{{.Text}}</h1>
<p>{{.Message}}</p>
</html>
{{end}}{{if eq .Status 404}}{{template "unknown" .}}{{else}}{{template "other" .}}{{end}}`

// notFoundPage makes a template of the user's file; nil without one.
func notFoundPage(file string) (*template.Template, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	t := template.Must(template.New("pages").Parse(pages))
	if _, err := t.New("unknown").Parse(string(text)); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, sniproxy.Page{Status: 404, Text: http.StatusText(404), Host: "example.com"}); err != nil {
		return nil, err
	}
	if b.Len() > maxPage {
		return nil, fmt.Errorf("%s: a page of %d bytes, and %d are allowed", file, b.Len(), maxPage)
	}
	return t, nil
}

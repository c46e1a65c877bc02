// Package routes reads declarations: which public host name and path is served
// by which services of which clusters.
package routes

//go:build node

// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"net/http"

	"github.com/garyclub/webhook-operator/internal/fixture/receiver"
)

// receive answers 200 to everything on port 8443, and lists on port 8080 what came.
func receive(args []string) error {
	f := flag.NewFlagSet("receive", flag.ExitOnError)
	cert := f.String("cert", "/tls/tls.crt", "certificate")
	key := f.String("key", "/tls/tls.key", "its key")
	_ = f.Parse(args)
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		return err
	}
	r, err := receiver.Start(nil, receiver.Options{Addr: ":8443", Certificate: &pair})
	if err != nil {
		return err
	}
	http.HandleFunc("GET /requests", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(r.Requests())
	})
	return http.ListenAndServe(":8080", nil)
}

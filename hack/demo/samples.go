// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const (
	caSecret = "demo-ca"
	caKey    = "ca.crt"
)

// applySamples applies config/samples as a user would, after filling in what its README asks for: the hosts and the
// values of Secrets. The backoff is shortened, and the receivers' CA is named, since they have no public certificates.
func (d *demo) applySamples(ctx context.Context) error {
	say("config/samples, filled in: five endpoints, each with a receiver of its own")
	for _, m := range manners {
		fmt.Printf("  %-20s https://%s %s\n", m.endpoint, d.receivers.all[m.endpoint].Addr(), m.title)
	}
	objects, err := readAll(filepath.Join(d.root, "config/samples"))
	if err != nil {
		return err
	}
	list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "v1", "kind": "List"}}
	for _, o := range append(objects, d.caSecret()) {
		if err := d.fillIn(o); err != nil {
			return fmt.Errorf("sample %s: %w", o.GetName(), err)
		}
		list.Items = append(list.Items, *o)
	}
	text, err := list.MarshalJSON()
	if err != nil {
		return err
	}
	file := filepath.Join(d.dir, "samples.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	out, err := d.Kubectl(ctx, "apply", "-n", namespace, "-f", file)
	fmt.Print("\n", out)
	return err
}

func readAll(folder string) ([]*unstructured.Unstructured, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for _, name := range files {
		if filepath.Base(name) == "kustomization.yaml" {
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		found, err := decode(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func decode(r io.Reader) (all []*unstructured.Unstructured, err error) {
	decoder := yaml.NewYAMLOrJSONDecoder(r, 4096)
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(o)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if len(o.Object) > 0 {
			all = append(all, o)
		}
	}
}

func (d *demo) caSecret() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret",
		"metadata":   map[string]any{"name": caSecret, "labels": map[string]any{"webhooks.gary.club/credentials": "true"}},
		"stringData": map[string]any{caKey: string(d.receivers.ca.PEM())},
	}}
}

func (d *demo) fillIn(o *unstructured.Unstructured) error {
	if o.GetKind() == "Secret" {
		return d.fillInSecret(o)
	}
	if text, found, _ := unstructured.NestedString(o.Object, "spec", "url"); found {
		moved, err := d.move(text, o.GetName())
		if err != nil {
			return err
		}
		if err := unstructured.SetNestedField(o.Object, moved, "spec", "url"); err != nil {
			return err
		}
	}
	return errors.Join(
		unstructured.SetNestedField(o.Object, map[string]any{"name": caSecret, "key": caKey}, "spec", "tls", "caSecretRef"),
		unstructured.SetNestedField(o.Object, int64(1), "spec", "retry", "initialBackoffSeconds"),
	)
}

func (d *demo) fillInSecret(o *unstructured.Unstructured) error {
	text, found, _ := unstructured.NestedString(o.Object, "stringData", "url")
	if !found {
		return nil
	}
	moved, err := d.move(text, o.GetName())
	if err != nil {
		return err
	}
	return unstructured.SetNestedField(o.Object, moved, "stringData", "url")
}

// move puts the receiver of the endpoint in place of a sample's host.
func (d *demo) move(text, endpoint string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || !strings.HasSuffix(u.Host, ".receivers.example") {
		return "", errors.New("its URL does not point to receivers.example")
	}
	to := d.receivers.all[endpoint]
	if to == nil {
		return "", errors.New("the demo has no receiver for it: see manners")
	}
	u.Host = to.Addr()
	return u.String(), nil
}

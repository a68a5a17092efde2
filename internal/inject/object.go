// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
)

// object is a JSON object whose numbers are as they were written.
type object = map[string]any

func decode(raw []byte) (object, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var o object
	if err := decoder.Decode(&o); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one object")
	}
	return o, nil
}

func encode(o object) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(o); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// objectOf is a typed value as its JSON object.
func objectOf(typed any) (object, error) {
	raw, err := json.Marshal(typed)
	if err != nil {
		return nil, err
	}
	return decode(raw)
}

// below is the object in a field, which is made when it is missing or null.
func below(o object, field string) (object, error) {
	switch value := o[field].(type) {
	case object:
		return value, nil
	case nil:
		made := object{}
		o[field] = made
		return made, nil
	}
	return nil, fmt.Errorf("%s is no object", field)
}

// objects is the list of objects in a field; nil when it is missing or null.
func objects(o object, field string) ([]object, error) {
	list, isList := o[field].([]any)
	if !isList && o[field] != nil {
		return nil, fmt.Errorf("%s is no list", field)
	}
	all := make([]object, 0, len(list))
	for i, element := range list {
		one, isObject := element.(object)
		if !isObject {
			return nil, fmt.Errorf("%s[%d] is no object", field, i)
		}
		all = append(all, one)
	}
	return all, nil
}

func listOf(all []object) []any {
	list := make([]any, 0, len(all))
	for _, one := range all {
		list = append(list, one)
	}
	return list
}

func named(name string) func(object) bool {
	return func(o object) bool { return o["name"] == name }
}

// merge is what was found with fresh over it: objects are merged, anything else is replaced.
func merge(found, fresh object) object {
	merged := maps.Clone(found)
	for key, value := range fresh {
		merged[key] = overlay(found[key], value)
	}
	return merged
}

func overlay(found, fresh any) any {
	old, wasObject := found.(object)
	latest, isObject := fresh.(object)
	if !wasObject || !isObject {
		return fresh
	}
	return merge(old, latest)
}

// overlayList puts fresh elements in the place of those with the same key, and behind the others when there is none.
func overlayList(found, fresh any, key string) any {
	latest, _ := fresh.([]any)
	var merged []any
	if old, isList := found.([]any); isList {
		merged = append(merged, old...)
	}
	for _, element := range latest {
		if i := indexOf(merged, element, key); i >= 0 {
			merged[i] = element
			continue
		}
		merged = append(merged, element)
	}
	return merged
}

func indexOf(list []any, element any, key string) int {
	wanted, _ := element.(object)
	for i, candidate := range list {
		if c, isObject := candidate.(object); isObject && c[key] == wanted[key] {
			return i
		}
	}
	return -1
}

// sameKeys says of a volume whether it is of the same kind: one with two sources would be refused.
func sameKeys(a, b object) bool {
	if len(a) != len(b) {
		return false
	}
	for key := range a {
		if _, found := b[key]; !found {
			return false
		}
	}
	return true
}

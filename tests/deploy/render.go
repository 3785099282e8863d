// Renders the chart where there is no helm: Go's text/template with sprig, as Helm does it, as far as the
// chart goes.
//
//	render CHART [VALUES...]
//
// prints the objects of crds/ and templates/ as one stream of YAML documents. Values are merged in order over
// the chart's own and, as in Helm, are what their JSON would be: numbers are floats. They are not checked
// here. Stricter than Helm, a value that is not there is an error.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v3"
)

type object = map[string]interface{}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: render CHART [VALUES...]"))
	}
	if err := render(os.Args[1], os.Args[2:]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "render:", err)
	os.Exit(1)
}

func render(chart string, valueFiles []string) error {
	values := object{}
	for _, path := range append([]string{filepath.Join(chart, "values.yaml")}, valueFiles...) {
		more, err := readYaml(path)
		if err != nil {
			return err
		}
		values = merge(values, more)
	}
	description, err := readYaml(filepath.Join(chart, "Chart.yaml"))
	if err != nil {
		return err
	}
	context := object{
		"Values": values,
		"Chart": object{
			"Name":       description["name"],
			"Version":    description["version"],
			"AppVersion": description["appVersion"],
		},
		"Release": object{"Name": "dozlab", "Namespace": "default", "Service": "Helm"},
		"Files":   files{chart},
	}
	if err := printDefinitions(chart); err != nil {
		return err
	}
	return printTemplates(chart, context)
}

// Definitions of resources are no templates.
func printDefinitions(chart string) error {
	paths, err := filepath.Glob(filepath.Join(chart, "crds", "*.yaml"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Printf("---\n%s\n", text)
	}
	return nil
}

func printTemplates(chart string, context object) error {
	paths, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	if err != nil {
		return err
	}
	sort.Strings(paths)
	all := template.New("chart").Option("missingkey=error")
	all.Funcs(functions(all))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, err := all.New(filepath.Base(path)).Parse(string(text)); err != nil {
			return err
		}
	}
	for _, path := range paths {
		name := filepath.Base(path)
		var output bytes.Buffer
		if strings.HasPrefix(name, "_") {
			continue
		}
		if err := all.ExecuteTemplate(&output, name, context); err != nil {
			return err
		}
		// The notes are for a person: that they can be written is all there is to see.
		if name != "NOTES.txt" {
			fmt.Printf("---\n%s\n", output.String())
		}
	}
	return nil
}

// Sprig's functions, and those of Helm's own that the chart uses.
func functions(all *template.Template) template.FuncMap {
	known := sprig.TxtFuncMap()
	// Helm has neither: a chart must not read its environment.
	delete(known, "env")
	delete(known, "expandenv")
	known["include"] = func(name string, data interface{}) (string, error) {
		var output bytes.Buffer
		err := all.ExecuteTemplate(&output, name, data)
		return output.String(), err
	}
	known["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	known["fromYaml"] = func(text string) (object, error) { return parseYaml([]byte(text)) }
	return known
}

// The chart's other files.
type files struct{ chart string }

func (all files) Get(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(all.chart, name))
	return string(text), err
}

func readYaml(path string) (object, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	parsed, err := parseYaml(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return parsed, nil
}

func parseYaml(text []byte) (object, error) {
	var parsed object
	if err := yaml.Unmarshal(text, &parsed); err != nil {
		return nil, err
	}
	asJson, err := json.Marshal(parsed)
	if err != nil {
		return nil, err
	}
	var values object
	return values, json.Unmarshal(asJson, &values)
}

// Objects are merged key by key, everything else is replaced.
func merge(under, over object) object {
	for key, value := range over {
		below, both := under[key].(object)
		above, isObject := value.(object)
		if both && isObject {
			value = merge(below, above)
		}
		under[key] = value
	}
	return under
}

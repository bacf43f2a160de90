import Catalog

/// Objects of a schema as `schema show` prints them.
struct SchemaListing {
    private let objects: [CatalogObject]
    private let catalog: SchemaCatalog
    private let isWhole: Bool

    /// - Parameter pattern: which objects, by kind and name or by name alone, `*` for any characters.
    /// - Returns: nil when there is none of that name.
    init?(catalog: SchemaCatalog, pattern: String?) {
        self.catalog = catalog
        isWhole = pattern == nil
        let parts: Set<ObjectKind> = [.column, .constraint, .index, .rule, .trigger, .policy, .domainConstraint]
        guard let pattern else {
            objects = catalog.sorted.filter { !parts.contains($0.identity.kind) }
            return
        }
        let chosen = catalog.sorted.filter { object in
            let name = object.identity.description
            let bare = name.prefix { $0 != "(" }
            return [name, String(bare), "\(object.identity.kind.name) \(name)"].contains {
                IgnoreList.matches(pattern, $0)
            }
        }
        if chosen.isEmpty { return nil }
        let names = Set(chosen.map { [$0.identity.schema, $0.identity.name] })
        let whole = catalog.sorted.filter { object in
            chosen.contains(object)
                || object.identity.parent.map { names.contains([object.identity.schema, $0]) } ?? false
        }
        objects = whole
    }

    var text: String {
        if isWhole {
            var table = TextTable("KIND", "NAME")
            for object in objects { table.add(object.identity.kind.name, object.identity.description) }
            return table.text
        }
        var shown = SchemaCatalog(schemas: [], serverVersion: catalog.serverVersion, objects: objects)
        shown.systems = catalog.systems
        let text = SchemaSnapshot.text(of: shown)
        // The head is the snapshot's, and not asked for.
        return String(text[(text.range(of: "\n\n")?.upperBound ?? text.startIndex)...]) + references
    }

    /// The foreign keys of other tables that lead here.
    private var references: String {
        let tables = Set(objects.filter { $0.identity.kind == .table }.map(\.identity.description))
        let keys = ForeignKeyGraph(catalog).keys.filter { tables.contains($0.to.description) }
        if keys.isEmpty { return "" }
        return "\nreferenced by\n"
            + keys.map { "  \($0.constraint): \($0.columns.joined(separator: ", "))\n" }.joined()
    }

    var json: JSONValue {
        [
            "objects": .array(
                objects.map { object in
                    [
                        "kind": .string(object.identity.kind.name),
                        "object": .string(object.identity.description),
                        "properties": .object(
                            Dictionary(
                                object.properties.map { ($0.name, .string($0.value)) }, uniquingKeysWith: { $1 })),
                    ]
                })
        ]
    }
}

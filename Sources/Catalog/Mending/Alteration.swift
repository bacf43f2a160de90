import Postgres
import SQL

/// The way to change one property from the found value to the expected value.
enum Alteration: Sendable {
    /// Statements that change the object in place.
    case statements([String])
    /// Statements that change the object in place, after the dependents that prevent this were removed.
    case withDependentsAway([String])
    /// Drop and create the object and all its dependents.
    case recreate
    /// Drop and create the type. Columns of the type keep their data.
    case retype
    /// Create the table again and copy its rows.
    case rebuild
    /// Statements that run after all other changes.
    case afterwards([String])
}

/// Decides how to change a property of an object. Pure.
struct AlterationPlanner {
    let expected: SchemaCatalog
    let found: SchemaCatalog
    let definition: ObjectDefinition

    func alteration(of property: String, from old: CatalogObject, to new: CatalogObject) -> Alteration {
        let identity = new.identity
        switch property {
        case "owner": return .statements([definition.ownership(of: identity, role: new["owner"])])
        case "comment": return .statements([ObjectDefinition.comment(on: identity, new["comment"])])
        case _ where PrivilegeChange.grantee(property) != nil:
            return .statements(
                definition.privileges(of: new).statements(property, found: old[property], expected: new[property]))
        default: break
        }
        switch identity.kind {
        case .table, .foreignTable: return TableAlteration(old: old, new: new).alteration(of: property)
        case .column: return column(property, old, new)
        case .sequence: return sequence(property, new)
        case .view, .materializedView: return view(property, old, new)
        case .function, .procedure: return routine(property, new)
        case .enumType, .domain, .compositeType, .rangeType: return type(property, old, new)
        case .extension: return extensionChange(property, new)
        case .foreignDataWrapper, .foreignServer, .userMapping: return server(property, old, new)
        case .subscription: return subscription(property, new)
        case .textSearchConfiguration, .textSearchDictionary: return textSearch(property, old, new)
        case .schema, .collation, .aggregate, .operation, .cast, .domainConstraint, .constraint, .index, .rule,
            .trigger,
            .policy, .statistics, .eventTrigger, .publication, .defaultPrivileges, .extensionMember:
            return LeafAlteration(old: old, new: new).alteration(of: property)
        }
    }

    private func column(_ property: String, _ old: CatalogObject, _ new: CatalogObject) -> Alteration {
        let alteration = ColumnAlteration(old: old, new: new, relations: definition.relations).alteration(of: property)
        guard property == "identity", case .statements(let statements) = alteration else { return alteration }
        if new["identity"] == nil { return .statements(statements + ordinarySequences(insteadOf: old.identity, new)) }
        guard old["identity"] == nil, let sequence = definition.relations.identitySequence(of: new.identity) else {
            return alteration
        }
        let path = sequence.identity.path
        let attributes = definition.attributes(of: sequence)
        if found[sequence.identity] == nil {
            return .statements(statements + attributes + [position(of: sequence, from: new.identity)])
        }
        // The column has an ordinary sequence of that name, which cannot become the column's own.
        let former = "reeve_former_sequence"
        let formerPath = "\(sequence.identity.quotedParent).\(former)"
        return .statements(
            ["ALTER SEQUENCE \(path) RENAME TO \(former)"] + statements + attributes + [
                "SELECT setval(\(quoteLiteral(path)), last_value, is_called) FROM \(formerPath)",
                "DROP SEQUENCE \(formerPath)",
            ])
    }

    /// Returns the statement that sets the position of a new sequence behind the values of a column.
    private func position(of sequence: CatalogObject, from column: ObjectIdentity) -> String {
        let path = quoteLiteral(sequence.identity.path)
        let (table, name) = (column.quotedParent, column.quotedName)
        let isDescending = sequence["increment"]?.hasPrefix("-") ?? false
        let last = "\(isDescending ? "min" : "max")(\(name))"
        // A value before the sequence's first one is no position of it.
        return "SELECT setval(\(path), \(last)) FROM \(table) "
            + "HAVING \(last) \(isDescending ? "<=" : ">=") \(sequence["start"] ?? "1")"
    }

    /// Returns the statements that create the ordinary sequences whose names an identity column had.
    private func ordinarySequences(insteadOf column: ObjectIdentity, _ new: CatalogObject) -> [String] {
        var statements: [String] = []
        for object in found.sorted where ExactText.same(object["identity of"], column.path) {
            guard let sequence = expected[object.identity], sequence["identity of"] == nil else { continue }
            let path = sequence.identity.path
            statements += definition.create(sequence) + definition.attributes(of: sequence)
            if let owner = sequence["owned by"] { statements.append("ALTER SEQUENCE \(path) OWNED BY \(owner)") }
            statements.append(position(of: sequence, from: new.identity))
        }
        return statements
    }

    private func sequence(_ property: String, _ new: CatalogObject) -> Alteration {
        // Identity and ordinary sequences do not become each other: the column's alteration creates a new one.
        if (new["identity of"] == nil) != (found[new.identity]?["identity of"] == nil) { return .statements([]) }
        let alter = "ALTER SEQUENCE \(new.identity.path)"
        switch property {
        case "owned by": return .afterwards(["\(alter) OWNED BY \(new["owned by"] ?? "NONE")"])
        case "persistence": return .statements(["\(alter) SET \(new["persistence"]?.uppercased() ?? "LOGGED")"])
        case "identity of": return .statements([])
        default:
            let type = new["identity of"] == nil || property == "type" ? " AS \(new["type"] ?? "bigint")" : ""
            return .statements(["\(alter)\(type) \(RelationDefinition.sequenceOptions(new))"])
        }
    }

    private func view(_ property: String, _ old: CatalogObject, _ new: CatalogObject) -> Alteration {
        let alter = "ALTER \(new.identity.word) \(new.identity.path)"
        switch property {
        case "options":
            return .statements(OptionList.change(old["options"], new["options"]).map { "\(alter) \($0)" })
        case "tablespace":
            return .statements(["\(alter) SET TABLESPACE \(PlainName.quoted(new["tablespace"] ?? "pg_default"))"])
        default: return .recreate
        }
    }

    private func routine(_ property: String, _ new: CatalogObject) -> Alteration {
        switch property {
        // CREATE OR REPLACE cannot change these properties, because callers depend on them.
        case "arguments", "returns", "window": return .recreate
        default: return .statements([RoutineDefinition(object: new).create(orReplace: true)])
        }
    }

    private func extensionChange(_ property: String, _ new: CatalogObject) -> Alteration {
        let alter = "ALTER EXTENSION \(new.identity.sqlName)"
        return .statements([
            property == "version"
                ? "\(alter) UPDATE TO \(quoteLiteral(new["version"] ?? ""))"
                : "\(alter) SET SCHEMA \(PlainName.quoted(new["in schema"] ?? "public"))"
        ])
    }

    private func server(_ property: String, _ old: CatalogObject, _ new: CatalogObject) -> Alteration {
        let alter = "ALTER \(new.identity.reference)"
        switch property {
        case "handler", "validator":
            let word = property.uppercased()
            return .statements(["\(alter) " + (new[property].map { "\(word) \($0)" } ?? "NO \(word)")])
        case "options": return .statements(["\(alter) \(OptionList.foreignChange(old["options"], new["options"]))"])
        case "version": return .statements(["\(alter) VERSION \(new["version"].map(quoteLiteral) ?? "NULL")"])
        default: return .recreate
        }
    }

    private func subscription(_ property: String, _ new: CatalogObject) -> Alteration {
        let alter = "ALTER SUBSCRIPTION \(new.identity.sqlName)"
        let definition = TypeDefinition(object: new)
        switch property {
        case "connection": return .statements(["\(alter) CONNECTION \(definition.connection)"])
        case "publications":
            return .statements(["\(alter) SET PUBLICATION \(new[property] ?? "") WITH (refresh = false)"])
        case "enabled": return .statements(["\(alter) \(new[property] == nil ? "ENABLE" : "DISABLE")"])
        default:
            return .statements(["\(alter) SET (\(definition.subscriptionOption(property)))"])
        }
    }

    private func textSearch(_ property: String, _ old: CatalogObject, _ new: CatalogObject) -> Alteration {
        guard property == "mappings" else { return .recreate }
        let name = new.identity.sqlName
        let (before, after) = (TypeDefinition.mappings(old["mappings"]), TypeDefinition.mappings(new["mappings"]))
        let gone = before.filter { !after.contains($0) }
        let added = after.filter { !before.contains($0) }
        return .statements(
            gone.map { "ALTER TEXT SEARCH CONFIGURATION \(name) DROP MAPPING FOR \($0.token)" }
                + added.map { TypeDefinition.addMapping(name, $0) })
    }

    // MARK: Types

    private func type(_ property: String, _ old: CatalogObject, _ new: CatalogObject) -> Alteration {
        let name = new.identity.path
        switch (new.identity.kind, property) {
        case (.domain, "default"):
            return .statements([
                "ALTER DOMAIN \(name) " + (new["default"].map { "SET DEFAULT \($0)" } ?? "DROP DEFAULT")
            ])
        case (.domain, "not null"):
            return .statements(["ALTER DOMAIN \(name) \(new["not null"] == nil ? "DROP" : "SET") NOT NULL"])
        case (.enumType, "labels"): return labels(old, new).map { .statements($0) } ?? .retype
        case (.compositeType, "attributes"): return attributes(old, new).map { .statements($0) } ?? .retype
        default: return .retype
        }
    }

    /// Returns the ADD VALUE statements; nil if a label must be removed or moved, which ADD VALUE cannot do.
    private func labels(_ old: CatalogObject, _ new: CatalogObject) -> [String]? {
        let (before, after) = (
            LabelList.labels(old["labels"]).map(ExactText.init), LabelList.labels(new["labels"]).map(ExactText.init)
        )
        guard after.filter(before.contains) == before else { return nil }
        return after.enumerated().filter { !before.contains($1) }.map { number, label in
            let position = number > 0 ? "AFTER \(after[number - 1])" : before.first.map { "BEFORE \($0)" } ?? ""
            return "ALTER TYPE \(new.identity.path) ADD VALUE \(label) \(position)"
        }
    }

    /// Returns the ALTER TYPE statements; nil if a column has the type, or if adding attributes at the end does not
    /// produce the expected order.
    private func attributes(_ old: CatalogObject, _ new: CatalogObject) -> [String]? {
        let isUsed = found.objects.values.contains { object in
            object.identity.kind == .column && object.dependencies.contains(new.identity)
        }
        let split = { (text: String?) in
            QualifiedName.lines(text ?? "").map { line -> (name: ExactText, type: ExactText) in
                let (name, type) = QualifiedName.halves(line, at: " ")
                return (ExactText(name), ExactText(type))
            }
        }
        let (before, after) = (split(old["attributes"]), split(new["attributes"]))
        let kept = before.filter { one in after.contains { $0.name == one.name } }
        guard !isUsed, after.prefix(kept.count).map(\.name) == kept.map(\.name) else { return nil }
        let alter = "ALTER TYPE \(new.identity.path)"
        let gone = before.filter { one in !after.contains { $0.name == one.name } }
        let changed = zip(kept, after).filter { $0.type != $1.type }.map(\.1)
        return gone.map { "\(alter) DROP ATTRIBUTE \($0.name)" }
            + changed.map { "\(alter) ALTER ATTRIBUTE \($0.name) TYPE \($0.type)" }
            + after.dropFirst(kept.count).map { "\(alter) ADD ATTRIBUTE \($0.name) \($0.type)" }
    }
}

/// The labels of an enum, as quoted literals.
enum LabelList {
    static func labels(_ text: String?) -> [String] {
        guard let tokens = try? SQLLexer.tokens(of: Array((text ?? "").utf8)) else { return [] }
        return tokens.filter { $0.kind == .string }.map { (text ?? "").bytes($0.range) }
    }
}

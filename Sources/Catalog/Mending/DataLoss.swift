import SQL

/// Decides which changes lose rows or values. Pure.
///
/// A statement that the server refuses rather than lose a value, such as the conversion of a number that is too large,
/// loses nothing.
enum DataLoss {
    /// Returns what is lost if an unexpected object is dropped; nil if nothing is lost.
    static func ofDropping(_ object: CatalogObject) -> String? {
        let identity = object.identity
        let name = "\(identity.kind.name) \(identity)"
        switch identity.kind {
        case .table: return "no migration creates \(name)"
        // The values of a generated column are computed from other columns. A foreign table stores no rows.
        case .column:
            return object["generated"] == nil && object["type"] != nil ? "no migration creates \(name)" : nil
        case .sequence: return "no migration creates \(name), whose position is lost"
        case .extension: return "no migration creates \(name); its own tables are dropped with it"
        case .subscription:
            return "no migration creates \(name), whose replication slot and position are lost"
        case .foreignServer, .userMapping, .foreignDataWrapper:
            let isHidden = object["options"].map { $0.contains(Secrets.mask) || $0 == Secrets.unreadable } ?? false
            return isHidden ? "no migration creates \(name), which has hidden options" : nil
        case .schema, .collation, .enumType, .domain, .domainConstraint, .compositeType, .rangeType,
            .textSearchDictionary, .textSearchConfiguration, .function, .procedure, .aggregate, .operation, .cast,
            .foreignTable, .constraint, .index, .view, .materializedView, .rule, .trigger, .policy, .statistics,
            .eventTrigger, .publication, .defaultPrivileges, .extensionMember:
            return nil
        }
    }

    /// Returns what is lost if a property is changed; nil if nothing is lost.
    static func ofChanging(_ property: String, from old: CatalogObject, to new: CatalogObject) -> String? {
        switch (new.identity.kind, property) {
        case (.column, "type"): return ofConverting(new.identity, old["type"], new["type"])
        case (.column, "identity") where new["identity"] == nil:
            return "the position of the sequence of column \(new.identity)"
        case (.domain, "base type"): return ofConverting(new.identity, old["base type"], new["base type"])
        case (.rangeType, "subtype"): return ofConverting(new.identity, old["subtype"], new["subtype"])
        case (.compositeType, "attributes"): return ofChangingAttributes(old, new)
        default: return nil
        }
    }

    private static func ofConverting(_ identity: ObjectIdentity, _ old: String?, _ new: String?) -> String? {
        guard let old, let new, !isLossless(from: old, to: new) else { return nil }
        return
            "\(identity.kind.name) \(identity) is converted from \(old) to \(new), which may change or shorten values"
    }

    private static func ofChangingAttributes(_ old: CatalogObject, _ new: CatalogObject) -> String? {
        let attributes = { (object: CatalogObject) in
            QualifiedName.lines(object["attributes"] ?? "").map { line -> (ExactText, String) in
                let (name, type) = QualifiedName.halves(line, at: " ")
                return (ExactText(name), type)
            }
        }
        let after = Dictionary(attributes(new), uniquingKeysWith: { first, _ in first })
        for (name, type) in attributes(old) {
            guard let wanted = after[name] else {
                return "attribute \(name) of \(new.identity), which is in no migration"
            }
            if !isLossless(from: type, to: wanted) {
                return
                    "attribute \(name) of \(new.identity) is converted from \(type) to \(wanted), which may change or "
                    + "shorten values"
            }
            // The values are stored as jsonb meanwhile, which knows no bounds of arrays, and no json as it was written.
            if !isScalar(type) {
                return "the exact values of attribute \(name) of \(new.identity), whose type is \(type)"
            }
        }
        return nil
    }

    /// Returns whether jsonb keeps each value of a type.
    private static func isScalar(_ type: String) -> Bool {
        guard let printed = PrintedType(type) else { return false }
        return integers.contains(printed.base) || scalars.contains(printed.base)
    }

    private static let scalars: Set<String> = [
        "text", "character varying", "character", "boolean", "uuid", "date", "numeric", "real", "double precision",
        "timestamp without time zone", "timestamp with time zone", "time without time zone", "time with time zone",
        "interval", "bytea",
    ]

    /// Returns what is lost if a table is created again and its rows are copied; nil if nothing is lost.
    static func ofRebuilding(
        _ table: CatalogObject, _ columns: [(old: CatalogObject, new: CatalogObject?)]
    ) -> String? {
        for (old, new) in columns {
            guard let new else {
                if let loss = ofDropping(old) { return loss }
                continue
            }
            if new["generated"] != nil, old["generated"] == nil {
                return "the values of column \(new.identity), which becomes a generated column"
            }
            if let loss = ofChanging("type", from: old, to: new) { return loss }
        }
        return nil
    }

    /// Returns whether a conversion keeps every value, or is refused by the server. A conversion that is not known here
    /// counts as lossy.
    static func isLossless(from old: String, to new: String) -> Bool {
        if ExactText.same(old, new) { return true }
        guard let from = PrintedType(old), let to = PrintedType(new) else { return false }
        // Every type can be written as text, and read from it.
        if to.isPlainText { return true }
        switch (from.base, to.base) {
        case (_, _) where from.base == to.base:
            switch to.base {
            case "numeric": return to.arguments.isEmpty || !from.arguments.isEmpty && to.scale >= from.scale
            case "character varying", "character":
                return to.length >= from.length && (from.base == to.base)
            case "timestamp without time zone", "timestamp with time zone", "time without time zone",
                "time with time zone", "interval":
                return to.length >= from.length
            default: return false
            }
        case ("character", "character varying"): return to.length >= from.length
        case (let one, let other) where integers.contains(one) && integers.contains(other): return true
        case (let one, "numeric") where integers.contains(one): return to.arguments.isEmpty || to.scale >= 0
        case ("numeric", let other) where integers.contains(other): return !from.arguments.isEmpty && from.scale <= 0
        case ("smallint", "real"), ("smallint", "double precision"), ("integer", "double precision"),
            ("real", "double precision"), ("date", "timestamp without time zone"):
            return true
        default: return false
        }
    }

    private static let integers = ["smallint", "integer", "bigint"]

    /// A type as PostgreSQL prints it: its name and its modifiers.
    private struct PrintedType {
        let base: String
        let arguments: [Int]

        init?(_ text: String) {
            if text.hasSuffix("]") || text.hasPrefix("\"") { return nil }
            let (name, rest) = QualifiedName.halves(text, at: "(")
            let (inside, after) = QualifiedName.halves(rest, at: ")")
            base = name + after
            arguments = QualifiedName.list(inside).compactMap { Int($0.trimmed) }
        }

        /// The length or precision; the largest number if there is no limit.
        var length: Int { arguments.first ?? .max }
        var scale: Int { arguments.count > 1 ? arguments[1] : 0 }
        var isPlainText: Bool { base == "text" || base == "character varying" && arguments.isEmpty }
    }
}

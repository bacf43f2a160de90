/// What kind of thing an object of a schema is, in PostgreSQL's words.
///
/// The order of the cases is the order in which objects are listed, and in which they are made where nothing else
/// decides.
public enum ObjectKind: UInt8, Sendable, CaseIterable, Comparable {
    case schema
    case `extension`
    case collation
    case enumType
    case domain
    case domainConstraint
    case compositeType
    case rangeType
    case textSearchDictionary
    case textSearchConfiguration
    case foreignServer
    case sequence
    case function
    case procedure
    case aggregate
    case operation
    case cast
    case table
    case foreignTable
    case column
    case constraint
    case index
    case view
    case materializedView
    case rule
    case trigger
    case policy
    case statistics
    case eventTrigger
    case publication
    case defaultPrivileges

    private static let names = [
        "schema",
        "extension",
        "collation",
        "enum",
        "domain",
        "domain constraint",
        "composite type",
        "range type",
        "text search dictionary",
        "text search configuration",
        "foreign server",
        "sequence",
        "function",
        "procedure",
        "aggregate",
        "operator",
        "cast",
        "table",
        "foreign table",
        "column",
        "constraint",
        "index",
        "view",
        "materialized view",
        "rule",
        "trigger",
        "policy",
        "statistics",
        "event trigger",
        "publication",
        "default privileges",
    ]
    private static let byName = Dictionary(uniqueKeysWithValues: zip(names, allCases))

    /// The kind in PostgreSQL's words.
    public var name: String { Self.names[Int(rawValue)] }

    public init?(name: String) {
        guard let kind = Self.byName[name] else { return nil }
        self = kind
    }

    public static func < (left: ObjectKind, right: ObjectKind) -> Bool { left.rawValue < right.rawValue }

    /// Tables of either sort: they hold rows.
    var isTable: Bool { self == .table || self == .foreignTable }

    /// Relations that a column can belong to.
    var isRelation: Bool { isTable || self == .view || self == .materializedView }

    /// What shares the names of tables in a schema.
    var isInRelationNamespace: Bool { isRelation || self == .sequence || self == .index || self == .compositeType }

    var isRoutine: Bool { self == .function || self == .procedure || self == .aggregate }

    var isType: Bool { [.enumType, .domain, .compositeType, .rangeType].contains(self) }

    /// What belongs to a relation, or to a domain, and goes with it.
    var hasParent: Bool { [.column, .constraint, .index, .rule, .trigger, .policy, .domainConstraint].contains(self) }

    /// What a database has outside its schemas.
    var isOfDatabase: Bool {
        [.schema, .extension, .foreignServer, .cast, .eventTrigger, .publication].contains(self)
    }
}

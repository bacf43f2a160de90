/// What kind of thing an object of a schema is, in PostgreSQL's words.
///
/// The order of the cases is the order in which objects are listed, and in which they are made where nothing else
/// decides.
public enum ObjectKind: String, Sendable, CaseIterable, Comparable {
    case schema
    case `extension` = "extension"
    case collation
    case enumType = "enum"
    case domain
    case domainConstraint = "domain constraint"
    case compositeType = "composite type"
    case rangeType = "range type"
    case textSearchDictionary = "text search dictionary"
    case textSearchConfiguration = "text search configuration"
    case foreignServer = "foreign server"
    case sequence
    case function
    case procedure
    case aggregate
    case operation = "operator"
    case cast
    case table
    case foreignTable = "foreign table"
    case column
    case constraint
    case index
    case view
    case materializedView = "materialized view"
    case rule
    case trigger
    case policy
    case statistics
    case eventTrigger = "event trigger"
    case publication
    case defaultPrivileges = "default privileges"

    private static let ranks = Dictionary(uniqueKeysWithValues: allCases.enumerated().map { ($1, $0) })
    var rank: Int { Self.ranks[self] ?? 0 }

    public static func < (left: ObjectKind, right: ObjectKind) -> Bool { left.rank < right.rank }

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

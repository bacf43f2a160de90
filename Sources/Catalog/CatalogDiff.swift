import Postgres
import SQL

/// A difference between an expected catalog and the catalog that was found.
public struct Difference: Sendable, Equatable {
    public let system: String?
    public let object: ObjectIdentity
    /// The object that `object` is a part of, such as the table of a column; nil if there is none.
    public let container: ObjectIdentity?
    /// The property that differs; nil if the whole object is missing or unexpected.
    public let property: String?
    public let expected: String?
    public let found: String?

    public enum Sort: Sendable { case missing, unexpected, changed }

    public static func == (left: Difference, right: Difference) -> Bool {
        left.object == right.object && left.container == right.container && ExactText.same(left.system, right.system)
            && ExactText.same(left.property, right.property) && left.hasValues(of: right)
    }

    func hasValues(of other: Difference) -> Bool {
        ExactText.same(expected, other.expected) && ExactText.same(found, other.found)
    }

    public var sort: Sort {
        if property != nil { return .changed }
        return found == nil ? .missing : .unexpected
    }
}

/// Compares two catalogs. Pure.
public struct CatalogDiff: Sendable {
    /// In a difference about a whole object, the value of `expected` or of `found` on the side where the object exists.
    static let present = "present"

    public var comparesOwners = true

    public init() {}

    /// Returns the differences, sorted by object; empty if the catalogs are equivalent.
    ///
    /// The parts of a missing or unexpected object, such as the columns of a table, are not listed separately. A
    /// difference that a child table or partition inherits from its parent is listed for the parent only.
    public func differences(expected: SchemaCatalog, found: SchemaCatalog) -> [Difference] {
        var result: [Difference] = []
        let sameVersion = expected.serverVersion == found.serverVersion
        let differing = expected.objects.keys.filter { found[$0] != expected[$0] }
        let unexpected = found.objects.keys.filter { expected[$0] == nil }
        for identity in (differing + unexpected).sorted() {
            let make = { (property: String?, wanted: String?, there: String?) in
                Difference(
                    system: expected.system(of: identity) ?? found.system(of: identity), object: identity,
                    container: expected[identity].flatMap(expected.container)
                        ?? found[identity].flatMap(found.container),
                    property: property, expected: wanted, found: there)
            }
            switch (expected.objectOrImplicitColumn(identity), found.objectOrImplicitColumn(identity)) {
            case (let one?, nil):
                if !isImplied(one, in: expected, lackingIn: found) { result.append(make(nil, Self.present, nil)) }
            case (nil, let other?):
                if !isImplied(other, in: found, lackingIn: expected) { result.append(make(nil, nil, Self.present)) }
            case (let one?, let other?) where one != other:
                // The part of another object, for instance a column of a table in the place of a view.
                if let its = expected.container(of: one), let others = found.container(of: other),
                    its.kind != others.kind
                {
                    continue
                }
                // After a dump and restore, a child table has its inherited columns first, so its column order is not
                // compared.
                let isChild = one["inherits"] != nil && other["inherits"] != nil
                for (name, left, right) in changes(one, other)
                where isCompared(name, identity, left, right, sameVersion) && !(isChild && name == "column order") {
                    result.append(make(name, left, right))
                }
            default: break
            }
        }
        return result.filter { !isInherited($0, among: result, expected, found) }
    }

    private func changes(_ one: CatalogObject, _ other: CatalogObject) -> [(String, String?, String?)] {
        let names = Set((one.properties + other.properties).map { ExactText($0.name) }).sorted().map(\.text)
        let secret = one.otherSecrets(than: other)
        return names.compactMap { name in
            // If a partition has different parents in the two catalogs, its bound is not compared. Only the difference
            // of the parents is reported.
            if name == "partition bound", !ExactText.same(one["partition of"], other["partition of"]) { return nil }
            // A property that the role may not read on one side is not compared.
            if [one[name], other[name]].contains(Secrets.unreadable) { return nil }
            let isSame = ExactText.same(one[name], other[name]) && !secret.contains(name)
            return isSame ? nil : (name, one[name], other[name])
        }
    }

    private func isCompared(
        _ property: String, _ identity: ObjectIdentity, _ expected: String?, _ found: String?, _ sameVersion: Bool
    ) -> Bool {
        switch property {
        case "owner": return comparesOwners
        // The version of an extension depends on the server, so it is compared only between servers of one major
        // version.
        case "version" where identity.kind == .extension: return sameVersion
        case "column order": return !Self.haveSameOrder(expected, found)
        default:
            guard !sameVersion, PrivilegeChange.grantee(property) != nil else { return true }
            // Only PostgreSQL 17 and newer have the privilege MAINTAIN, so it is not compared between different
            // versions.
            let maintain = ["MAINTAIN", "MAINTAIN*"]
            let known = { (list: String?) in
                (list ?? "").split(separator: ", ").map(String.init).filter { !maintain.contains($0) }
            }
            return known(expected) != known(found)
        }
    }

    /// Returns whether the columns that are in both lists have the same order.
    static func haveSameOrder(_ expected: String?, _ found: String?) -> Bool {
        let (one, other) = (QualifiedName.exactList(expected), QualifiedName.exactList(found))
        let common = Set(one).intersection(other)
        return one.filter(common.contains) == other.filter(common.contains)
    }

    /// Returns whether an object is missing or unexpected only because its container or schema is missing or
    /// unexpected.
    private func isImplied(
        _ object: CatalogObject, in catalog: SchemaCatalog, lackingIn other: SchemaCatalog
    ) -> Bool {
        // The sequence of an identity column is created and dropped together with the column's identity property. The
        // sequence needs no difference of its own.
        if object.identity.kind == .sequence, object["identity of"] != nil { return true }
        if let container = catalog.container(of: object), other[container] == nil { return true }
        if let schema = object.identity.schema, object.identity.kind != .schema {
            let whole = ObjectIdentity(.schema, schema)
            return catalog[whole] != nil && other[whole] == nil
        }
        return false
    }

    /// Returns whether a difference is inherited from a parent table. A difference of a column is inherited if the
    /// parent's column with the same name has the same difference. A difference of the column order is inherited if the
    /// column order of the parent differs, too.
    private func isInherited(
        _ difference: Difference, among all: [Difference], _ expected: SchemaCatalog, _ found: SchemaCatalog
    ) -> Bool {
        guard difference.object.kind == .column || difference.property == "column order" else { return false }
        let table = difference.object.kind == .column ? difference.object.quotedParent : difference.object.path
        let parents = { (catalog: SchemaCatalog) -> [ExactText] in
            guard let object = catalog.object(at: table).flatMap({ catalog[$0] }) else { return [] }
            return QualifiedName.exactList(object["partition of"] ?? object["inherits"])
        }
        for parent in Set(parents(expected)).intersection(parents(found)) {
            let isSame = all.contains { other in
                let otherTable = other.object.kind == .column ? other.object.quotedParent : other.object.path
                return ExactText(otherTable) == parent && other.object.kind == difference.object.kind
                    && (other.object.kind != .column || ExactText.same(other.object.name, difference.object.name))
                    && ExactText.same(other.property, difference.property) && other.sort == difference.sort
                    && (other.property == "column order" || other.hasValues(of: difference))
            }
            if isSame { return true }
        }
        return false
    }
}

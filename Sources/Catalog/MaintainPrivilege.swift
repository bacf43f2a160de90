/// The privilege MAINTAIN on relations, which exists since PostgreSQL 17.
///
/// A list of all privileges is the same list in catalogs of all versions: GRANT ALL grants MAINTAIN where it exists.
/// Therefore the list leaves MAINTAIN out if it has all others, and says `no MAINTAIN` if only MAINTAIN is missing.
enum MaintainPrivilege {
    static let name = "MAINTAIN"
    private static let absent = "no MAINTAIN"
    private static let others = ["DELETE", "INSERT", "REFERENCES", "SELECT", "TRIGGER", "TRUNCATE", "UPDATE"]

    /// Returns SQL for a list of privileges as the catalog has it, from SQL for the list of the server.
    static func spelled(_ list: String, version: Int) -> String {
        if version < 17 { return list }
        let cases = ["", "*"].map { option -> String in
            let text = { (names: [String]) in names.map { $0 + option }.joined(separator: ", ") }
            return """
                WHEN '\(text((others + [name]).sorted()))' THEN '\(text(others))'
                WHEN '\(text(others))' THEN '\(text(others)), \(absent)'
                """
        }
        return "CASE \(list) \(cases.joined(separator: " ")) ELSE \(list) END"
    }

    /// Returns the list that GRANT and REVOKE take, from a list of the catalog.
    static func expanded(_ list: [String]) -> [String] {
        if list.contains(absent) { return list.filter { $0 != absent } }
        if list.contains(name) || list.contains(name + "*") { return list }
        let option = ["", "*"].first { option in others.allSatisfy { list.contains($0 + option) } }
        return list + (option.map { [name + $0] } ?? [])
    }

    /// Whether the list is of all privileges on a relation. It is then written as ALL, because servers before version
    /// 17 do not know MAINTAIN.
    static func isAll(_ privileges: [String]) -> Bool { (others + [name]).allSatisfy { privileges.contains($0) } }
}

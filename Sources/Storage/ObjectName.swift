/// The rules for names of objects, which are paths below the root of a store. Some names are read from manifests, which
/// are untrusted input. Pure.
public enum ObjectName {
    /// The maximum length in bytes, which is the limit of S3.
    private static let longest = 1024

    /// Returns whether a name is a path below the root in every kind of store. A valid name is like `a/b`: it has no
    /// part `.` or `..`, no empty part and no control character.
    public static func isValid(_ name: String) -> Bool {
        guard !name.isEmpty, name.utf8.count <= longest else { return false }
        guard !name.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else { return false }
        return name.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).allSatisfy { part in
            !part.isEmpty && !part.elementsEqual(".".utf8) && !part.elementsEqual("..".utf8)
        }
    }

    /// Refuses a name that is not valid.
    ///
    /// - Throws: `StorageError.badName`.
    public static func check(_ name: String) throws {
        guard isValid(name) else { throw StorageError.badName(name) }
    }
}

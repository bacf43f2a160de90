import Foundation

/// Selects the environment variables of this process that a child receives: the variables that a program needs to run
/// at all, and those that are requested by name.
///
/// The environment of this process may contain secrets, and a child can show its environment to others. For instance,
/// if a PostgreSQL server is the child, a superuser can read its environment with `COPY … FROM PROGRAM 'env'`. A child
/// therefore receives only variables that were chosen explicitly. Pure, except for `locate`.
public enum ChildEnvironment {
    /// The folders in which programs are searched if the parent's PATH contains no absolute folder.
    public static let usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    /// The variables that every child receives, if the parent has them.
    static let fixedNames = ["HOME", "LANG", "LC_ALL", "TMPDIR", "TZ"]

    /// Returns the environment of a child.
    ///
    /// - Parameters:
    ///   - parent: the environment whose variables the child may receive.
    ///   - names: further variables that this child receives, if the parent has them.
    public static func fixed(
        of parent: [String: String] = ProcessInfo.processInfo.environment, with names: [String] = []
    ) -> [String: String] {
        var environment = parent.filter { names.contains($0.key) || fixedNames.contains($0.key) }
        environment["PATH"] = folders(of: parent["PATH"]).joined(separator: ":")
        // Relative paths are left out, because a child starts in another folder, where such a path names another place.
        for name in ["HOME", "TMPDIR"] where environment[name]?.hasPrefix("/") == false { environment[name] = nil }
        return environment
    }

    /// Returns the absolute folders of a PATH, or those of `usualPath` if there are none. Relative folders are left
    /// out, and so are empty entries, which mean the current folder.
    public static func folders(of path: String?) -> [String] {
        let folders = (path ?? "").split(separator: ":").map(String.init).filter { $0.utf8.first == UInt8(ascii: "/") }
        return folders.isEmpty ? usualPath.split(separator: ":").map(String.init) : folders
    }

    /// Returns the path of a program. A program with a slash is returned unchanged. Other programs are searched in
    /// `folders`, in order.
    ///
    /// - Returns: nil if no folder contains the program.
    static func locate(_ program: String, in folders: [String]) -> String? {
        if program.utf8.contains(UInt8(ascii: "/")) { return program }
        return folders.lazy.map { "\($0)/\(program)" }.first { access($0, X_OK) == 0 && !isFolder($0) }
    }

    private static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }
}

/// Selects the functions that a `Confinement` confines.
///
/// Inserting a row, checking a constraint and firing a trigger run functions of the database. A function without
/// SECURITY DEFINER runs with the rights of the current role, which is a superuser if Reeve connects as one. Changing
/// the role before the statement does not help, because the function can change it back. Therefore every function whose
/// owner is not a superuser is made SECURITY DEFINER for as long as necessary. It then runs with the rights of its
/// owner, and PostgreSQL refuses to change the role within it (manual, CREATE FUNCTION, "Writing SECURITY DEFINER
/// Functions Safely").
///
/// Functions that belong to an extension are not exempt, because the owner of a database may install trusted extensions
/// and add functions to them.
enum FunctionConfinement {
    /// An SQL condition on a row `p` of pg_proc: the function is not an aggregate and runs with the rights of its
    /// caller.
    static let isConfinable = "NOT p.prosecdef AND p.prokind <> 'a'"

    /// An SQL condition on a row `p` of pg_proc and the row `o` of pg_roles of its owner: the function is not an
    /// aggregate and runs with the rights of its caller, and its owner is not a superuser.
    static let unconfined = "\(isConfinable) AND NOT o.rolsuper"
}
